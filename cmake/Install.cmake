# What `cmake --install` and `pip install` copy, included at the end of CMakeLists.txt.
#
# cmake --install: bin/sardonyx, lib/libsardonyx.so, lib/libdnnl.so.3, include/sardonyx, and the CMake package
# lib/cmake/sardonyx with the target sardonyx::sardonyx. pip install (scikit-build-core sets SKBUILD): the
# Python package with both libraries inside it. Libraries find each other by $ORIGIN.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# oneDNN comes from a Python package, where no other program would find it.
get_target_property(sardonyx_dnnl DNNL::dnnl IMPORTED_LOCATION_RELEASE)
if(NOT sardonyx_dnnl)
  get_target_property(sardonyx_dnnl DNNL::dnnl LOCATION)
endif()
set(sardonyx_notices LICENSE THIRD_PARTY_NOTICES.md)

if(SKBUILD)
  # A wheel holds no symbolic links: one file, without versions in its name.
  set_property(TARGET sardonyx PROPERTY VERSION)
  set_property(TARGET sardonyx PROPERTY SOVERSION)
  install(TARGETS sardonyx sardonyx_wait_policy LIBRARY DESTINATION sardonyx COMPONENT python)
  install(FILES ${sardonyx_dnnl} RENAME libdnnl.so.3 DESTINATION sardonyx COMPONENT python)
  install(TARGETS _sardonyx LIBRARY DESTINATION sardonyx COMPONENT python)
  install(DIRECTORY python/sardonyx/ DESTINATION sardonyx COMPONENT python
    FILES_MATCHING PATTERN "*.py" PATTERN "*.pyi" PATTERN "py.typed" PATTERN "__pycache__" EXCLUDE)
  return()
endif()

set(sardonyx_package ${CMAKE_INSTALL_LIBDIR}/cmake/sardonyx)
install(TARGETS sardonyx sardonyx_wait_policy EXPORT sardonyxTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${sardonyx_dnnl} RENAME libdnnl.so.3 DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/sardonyx DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${sardonyx_notices} DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(TARGET sardonyx_cli)  # the program, whose file name is sardonyx
  set_target_properties(sardonyx_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS sardonyx_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT sardonyxTargets NAMESPACE sardonyx:: DESTINATION ${sardonyx_package})
configure_package_config_file(cmake/sardonyxConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/sardonyxConfig.cmake
  INSTALL_DESTINATION ${sardonyx_package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/sardonyxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sardonyxConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/sardonyxConfigVersion.cmake
  DESTINATION ${sardonyx_package})
