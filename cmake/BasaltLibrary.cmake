# One folder, one library target: basalt_library(name SOURCES … LINK … PRIVATE_LINK …) makes the static
# library basalt_<name> with the alias basalt::<name>. LINK edges are the dependency rule.
#
# Each library is installed with the package (cmake/BasaltInstall.cmake). What an installed static
# library needs from outside is noted here: PkgConfig::X targets by their module name, so that
# basalt-config.cmake and basalt.pc can ask for the same. NO_INSTALL keeps a library out of it (test
# helpers); PACKAGE puts it into another package than "basalt" (rocksdb_env: "basalt-rocksdb").
set(BASALT_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)

# GCC copies up to a page, where it knows that bound, by "rep movsq" in place, which is half as fast as the
# C library's memcpy between addresses that are not aligned alike, as those of a database's blocks.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|i.86")
  add_compile_options(-mstringop-strategy=libcall)
endif()
# For the whole tree: a sanitizer sees only what is built with it.
if(BASALT_SANITIZE)
  add_compile_options(-fsanitize=${BASALT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${BASALT_SANITIZE})
  if(BASALT_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=all)
  endif()
  if(BASALT_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan)  # fences: ThreadSanitizer does not model them; no test relies on one alone
  endif()
endif()
# From here on several sources are compiled at once: half of the compiler's time goes into headers otherwise. There a source is
# an included file to the compiler, and a type of its anonymous namespace looks as if others could have it.
macro(basalt_unity)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-subobject-linkage)
  endif()
endmacro()
# The sanitizers' presets have the libraries so, too.
if(CMAKE_UNITY_BUILD)
  basalt_unity()
endif()
if(BASALT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

function(basalt_compile_options target)
  target_compile_options(${target} PRIVATE ${BASALT_WARNINGS} $<$<BOOL:${BASALT_WERROR}>:-Werror>)
endfunction()

# Notes what `items` (link items of an installed library) need outside the project.
function(_basalt_note_requirements package items)
  foreach(item IN LISTS items)
    if(item MATCHES "^PkgConfig::(.+)$")
      set(prefix ${CMAKE_MATCH_1})
      set_property(GLOBAL APPEND PROPERTY ${package}_pkgconfig "${prefix}=${${prefix}_MODULE_NAME}")
    elseif(item MATCHES "^(spdlog|fmt|nlohmann_json|Threads|CLI11)::")
      set_property(GLOBAL APPEND PROPERTY ${package}_packages ${CMAKE_MATCH_1})
    elseif(item MATCHES "^RocksDB::")
      set_property(GLOBAL APPEND PROPERTY ${package}_packages RocksDB)
    elseif(NOT item MATCHES "^basalt(::|_)" AND NOT item MATCHES "^\\$<")
      set_property(GLOBAL APPEND PROPERTY ${package}_plain_libraries ${item})
    endif()
  endforeach()
endfunction()

function(basalt_library name)
  cmake_parse_arguments(arg "NO_INSTALL" "PACKAGE" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  if(NOT arg_PACKAGE)
    set(arg_PACKAGE basalt)
  endif()
  add_library(basalt_${name} STATIC ${arg_SOURCES})
  add_library(basalt::${name} ALIAS basalt_${name})
  set_target_properties(basalt_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(basalt_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
           $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(basalt_${name} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  basalt_compile_options(basalt_${name})
  if(NOT arg_NO_INSTALL)
    _basalt_note_requirements(${arg_PACKAGE} "${arg_LINK};${arg_PRIVATE_LINK}")
    set_property(GLOBAL APPEND PROPERTY ${arg_PACKAGE}_libraries basalt_${name})
    install(TARGETS basalt_${name} EXPORT ${arg_PACKAGE}-targets
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
  endif()
endfunction()
