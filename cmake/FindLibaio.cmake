# libaio has no package file of any kind. Defines strata::libaio; installed beside StrataConfig.cmake.
include(FindPackageHandleStandardArgs)
find_path(LIBAIO_INCLUDE_DIR libaio.h)
find_library(LIBAIO_LIBRARY aio)
mark_as_advanced(LIBAIO_INCLUDE_DIR LIBAIO_LIBRARY)
find_package_handle_standard_args(Libaio
  REQUIRED_VARS LIBAIO_LIBRARY LIBAIO_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "install libaio (Debian: libaio-dev)")
if(Libaio_FOUND AND NOT TARGET strata::libaio)
  add_library(strata::libaio UNKNOWN IMPORTED)
  set_target_properties(strata::libaio PROPERTIES
    IMPORTED_LOCATION ${LIBAIO_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${LIBAIO_INCLUDE_DIR})
endif()
