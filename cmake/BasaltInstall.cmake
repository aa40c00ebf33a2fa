# Install rules: public headers, the CMake packages "basalt" and "basalt-rocksdb", and the matching
# pkg-config files. Included last, when every basalt_library() has noted what it needs.
#
# Only static libraries are installed (the RocksDB plugin apart), so a .pc file names everything in
# Libs and Requires, not in their .private twins: whoever links libbasalt_*.a needs all of it.
include(CMakePackageConfigHelpers)

set(BASALT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake)
file(RELATIVE_PATH BASALT_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/basalt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development FILES_MATCHING PATTERN "*.h")
# The NVMe driver's headers include each other as in this tree, so that folder is one to look in (nvme/CMakeLists.txt says
# so to users of the target).
foreach(folder nvme src/mem src/wire src/base)
  get_filename_component(parent ${folder} DIRECTORY)
  string(REGEX REPLACE "^src/?" "" parent "${parent}")
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${BASALT_DRIVER_INCLUDEDIR}/${parent}
          COMPONENT development FILES_MATCHING PATTERN "*.h")
endforeach()

# Sets <out> to the basalt libraries of `package` as -l flags, dependents before their dependencies:
# folders are added bottom up, so reversed order of addition is link order.
function(_basalt_link_flags package out)
  get_property(libraries GLOBAL PROPERTY ${package}_libraries)
  list(REVERSE libraries)
  list(TRANSFORM libraries PREPEND "-l")
  list(JOIN libraries " " flags)
  set(${out} "${flags}" PARENT_SCOPE)
endfunction()

# Writes <package>-config.cmake, its version file and <package>.pc. `requires`: packages of ours it
# stands on.
function(_basalt_package package description requires)
  get_property(libraries GLOBAL PROPERTY ${package}_libraries)
  if(NOT libraries)
    return()
  endif()
  get_property(modules GLOBAL PROPERTY ${package}_pkgconfig)
  get_property(packages GLOBAL PROPERTY ${package}_packages)
  get_property(plain GLOBAL PROPERTY ${package}_plain_libraries)
  foreach(list modules packages plain)
    list(REMOVE_DUPLICATES ${list})
  endforeach()

  set(BASALT_FIND_DEPENDENCIES "")
  set(pc_requires ${requires})
  foreach(name IN LISTS requires packages)
    string(APPEND BASALT_FIND_DEPENDENCIES "find_dependency(${name})\n")
  endforeach()
  if(modules)
    string(APPEND BASALT_FIND_DEPENDENCIES "find_dependency(PkgConfig)\n")
  endif()
  foreach(module IN LISTS modules)
    string(REPLACE "=" ";" pair ${module})
    list(GET pair 0 prefix)
    list(GET pair 1 pc_name)
    string(APPEND BASALT_FIND_DEPENDENCIES
           "pkg_check_modules(${prefix} REQUIRED IMPORTED_TARGET ${pc_name})\n")
    list(APPEND pc_requires ${pc_name})
  endforeach()
  foreach(name spdlog fmt)
    if(name IN_LIST packages)
      list(APPEND pc_requires ${name})
    endif()
  endforeach()
  if("RocksDB" IN_LIST packages)
    list(APPEND pc_requires rocksdb)
  endif()
  list(REMOVE_DUPLICATES pc_requires)
  list(JOIN pc_requires ", " BASALT_PC_REQUIRES)
  _basalt_link_flags(${package} BASALT_PC_LIBS)
  foreach(library IN LISTS plain)
    string(APPEND BASALT_PC_LIBS " -l${library}")
  endforeach()
  set(BASALT_PACKAGE ${package})
  set(BASALT_PC_DESCRIPTION ${description})

  set(directory ${BASALT_PACKAGE_DIR}/${package})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/package-config.cmake.in
    ${PROJECT_BINARY_DIR}/${package}-config.cmake INSTALL_DESTINATION ${directory})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/${package}-config-version.cmake
    COMPATIBILITY SameMinorVersion)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/package.pc.in ${PROJECT_BINARY_DIR}/${package}.pc @ONLY)
  install(EXPORT ${package}-targets NAMESPACE basalt:: DESTINATION ${directory}
          COMPONENT development)
  install(FILES ${PROJECT_BINARY_DIR}/${package}-config.cmake
                ${PROJECT_BINARY_DIR}/${package}-config-version.cmake
          DESTINATION ${directory} COMPONENT development)
  install(FILES ${PROJECT_BINARY_DIR}/${package}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endfunction()

_basalt_package(basalt "${PROJECT_DESCRIPTION}" "")
configure_file(${PROJECT_SOURCE_DIR}/cmake/basalt-nvme.pc.in ${PROJECT_BINARY_DIR}/basalt-nvme.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/basalt-nvme.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
_basalt_package(basalt-rocksdb "Basalt as a RocksDB FileSystem and Env" basalt)
