# What `cmake --install` puts where: the program, and libraries that other projects find with
# find_package(Strata COMPONENTS aio). `--component aio` installs that one alone, after
# `cmake --build ... --target strata_aio`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(strata_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Strata)

install(TARGETS strata RUNTIME COMPONENT programs)
if(STRATA_HAS_MPI)
  install(TARGETS strata_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/strata COMPONENT programs)
endif()

set_target_properties(strata_base PROPERTIES EXPORT_NAME base)
set_target_properties(strata_aio PROPERTIES EXPORT_NAME aio)
install(TARGETS strata_base strata_aio EXPORT StrataAio
  ARCHIVE COMPONENT aio
  # A folder of our own: includes say "aio/io_engine.h", and many have a folder aio.
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/strata COMPONENT aio)
install(EXPORT StrataAio NAMESPACE strata:: FILE StrataAioTargets.cmake
  DESTINATION ${strata_package_dir} COMPONENT aio)

# What is installed says nothing of the machine that built it: paths in failed checks and in debug
# information begin at the root of the sources. A debugger finds them there, so Debug keeps them.
set(quiet_libraries strata_base strata_aio)
if(STRATA_HAS_MPI)
  list(APPEND quiet_libraries strata_mpi)
endif()
foreach(library ${quiet_libraries})
  target_compile_options(${library} PRIVATE $<$<NOT:$<CONFIG:Debug>>:
    -ffile-prefix-map=${PROJECT_BINARY_DIR}=build -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=>)
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/StrataConfig.cmake.in
  ${PROJECT_BINARY_DIR}/generated/cmake/StrataConfig.cmake
  INSTALL_DESTINATION ${strata_package_dir}
  NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/cmake/StrataConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/generated/cmake/StrataConfig.cmake
  ${PROJECT_BINARY_DIR}/generated/cmake/StrataConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/FindLibaio.cmake
  DESTINATION ${strata_package_dir} COMPONENT aio)
