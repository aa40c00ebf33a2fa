# One folder, one library target: basalt_library(name SOURCES … LINK … PRIVATE_LINK …) makes the static
# library basalt_<name> with the alias basalt::<name>. LINK edges are the dependency rule.
set(BASALT_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual)

function(basalt_compile_options target)
  target_compile_options(${target} PRIVATE ${BASALT_WARNINGS} $<$<BOOL:${BASALT_WERROR}>:-Werror>)
  if(BASALT_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${BASALT_SANITIZE} -fno-omit-frame-pointer -g)
    target_link_options(${target} PRIVATE -fsanitize=${BASALT_SANITIZE})
  endif()
endfunction()

function(basalt_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(basalt_${name} STATIC ${arg_SOURCES})
  add_library(basalt::${name} ALIAS basalt_${name})
  set_target_properties(basalt_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(basalt_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
           $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(basalt_${name} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  basalt_compile_options(basalt_${name})
endfunction()
