# require_wrap_linker(): stop where the linker cannot redirect a symbol with --wrap, on which the tracing decoder rests.
include(CheckCXXSourceCompiles)

function(require_wrap_linker)
  set(CMAKE_REQUIRED_LINK_OPTIONS "LINKER:--wrap=intercepted")
  check_cxx_source_compiles("
    extern \"C\" int intercepted();
    extern \"C\" int __wrap_intercepted() { return 0; }
    int main() { return intercepted(); }" CODECPRIOR_LINKER_HAS_WRAP)
  if(NOT CODECPRIOR_LINKER_HAS_WRAP)
    message(FATAL_ERROR "The linker of ${CMAKE_CXX_COMPILER} (${CMAKE_SYSTEM_NAME}) has no --wrap option, with which the "
                        "tracing decoder intercepts VVdeC. Linux with GCC or Clang and GNU ld, gold, lld or mold is "
                        "supported; macOS and MSVC are not.")
  endif()
endfunction()
