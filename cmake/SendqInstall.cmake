# Installs headers, both libraries, the CMake package and sendq.pc. All of it may be moved: paths
# are relative to the file that names them.

include(CMakePackageConfigHelpers)

install(DIRECTORY include/sendq TYPE INCLUDE)
install(FILES ${sendq_archive} TYPE LIB)
install(TARGETS sendq sendq_static EXPORT sendq)

set(sendq_package ${CMAKE_INSTALL_LIBDIR}/cmake/sendq)
configure_package_config_file(
    cmake/sendqConfig.cmake.in ${PROJECT_BINARY_DIR}/sendqConfig.cmake
    INSTALL_DESTINATION ${sendq_package}
    NO_SET_AND_CHECK_MACRO
)
write_basic_package_version_file(
    ${PROJECT_BINARY_DIR}/sendqConfigVersion.cmake COMPATIBILITY SameMinorVersion
)
install(EXPORT sendq FILE sendqTargets.cmake NAMESPACE sendq:: DESTINATION ${sendq_package})
install(FILES ${PROJECT_BINARY_DIR}/sendqConfig.cmake ${PROJECT_BINARY_DIR}/sendqConfigVersion.cmake
        DESTINATION ${sendq_package}
)

set(sendq_pkgconfig ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH sendq_includedir ${sendq_pkgconfig} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
list(TRANSFORM sendq_system PREPEND -l)
list(JOIN sendq_system " " sendq_libs_private)
configure_file(cmake/sendq.pc.in sendq.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/sendq.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
