# basalt_test(name SOURCES … LINK … [SANITIZE …] [TIMEOUT seconds] [ARGS …] [NO_MAIN] [SERIAL]): a
# GoogleTest executable whose cases are ctest's cases, named name.Suite.case. NO_MAIN: it brings its
# own main(). SERIAL: ctest runs it alone (it measures time or needs the whole machine). SANITIZE asan, tsan
# or asan_tsan, as a label: it is among those that `./dev test --sanitize=quick` runs under these.
#
# basalt_bench(name SOURCES … LINK …): a Google Benchmark executable in <build>/bench, run by ./dev bench.
#
# basalt_fuzz(name SOURCES … LINK …): a libFuzzer entry with the seed corpus test/fuzz/corpus/<name>.
# With BASALT_FUZZ (clang) it is linked with libFuzzer, for ./dev fuzz; otherwise it only replays the
# corpus, as one of ctest's cases.
include(GoogleTest)
foreach(group fuzz_entries quick_asan quick_tsan)
  if(NOT TARGET ${group})
    add_custom_target(${group})
  endif()
endforeach()

function(basalt_test name)
  cmake_parse_arguments(arg "NO_MAIN;SERIAL" "TIMEOUT;SANITIZE" "SOURCES;LINK;ARGS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}
                                             ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock)
  if(NOT arg_NO_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  basalt_compile_options(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  set(properties TIMEOUT ${arg_TIMEOUT})
  if(arg_SANITIZE)
    list(APPEND properties LABELS ${arg_SANITIZE})
  endif()
  foreach(sanitizer asan tsan)
    if(arg_SANITIZE MATCHES ${sanitizer})
      add_dependencies(quick_${sanitizer} ${name})
    endif()
  endforeach()
  if(arg_SERIAL)
    list(APPEND properties RUN_SERIAL TRUE)
  endif()
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       EXTRA_ARGS ${arg_ARGS} PROPERTIES ${properties})
endfunction()

function(basalt_bench name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}
                                             ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PRIVATE ${arg_LINK} benchmark::benchmark)
  basalt_compile_options(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
endfunction()

function(basalt_fuzz name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  set(corpus ${PROJECT_SOURCE_DIR}/test/fuzz/corpus/${name})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}
                                             ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  basalt_compile_options(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  if(BASALT_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/test/fuzz/replay_main.cc)
    add_test(NAME ${name}.corpus COMMAND ${name} ${corpus})
    set_tests_properties(${name}.corpus PROPERTIES TIMEOUT 120)
  endif()
  add_dependencies(fuzz_entries ${name})
endfunction()
