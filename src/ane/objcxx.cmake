# Whether framework.mm can be built here, and how. Included at directory scope.
#
# In:  ORION_ANE  AUTO (build without if anything is missing), ON (then configuring fails), OFF
# Out: ORION_HAVE_OBJCXX, and if true: orion_foundation, an interface target with the flags of
#      Objective-C++ sources; orion_foundation_libraries, what to link
set(ORION_ANE AUTO CACHE STRING "The Neural Engine's framework, in Objective-C++: AUTO, ON or OFF")
set_property(CACHE ORION_ANE PROPERTY STRINGS AUTO ON OFF)
set(ORION_HAVE_OBJCXX FALSE)
set(objcxx_missing "")

# Linux wheels do without: GNUstep would have to be on the user's machine.
if(ORION_ANE STREQUAL "AUTO" AND SKBUILD AND NOT APPLE)
  list(APPEND objcxx_missing "ORION_ANE=ON, which Linux wheels must ask for")
elseif(ORION_ANE AND APPLE)
  include(CheckLanguage)
  check_language(OBJCXX)
  if(NOT CMAKE_OBJCXX_COMPILER)
    list(APPEND objcxx_missing "an Objective-C++ compiler")
  endif()
elseif(ORION_ANE)
  # g++ will not do: it knows no @autoreleasepool, and C++ frames die in its @catch.
  find_program(ORION_CLANGXX NAMES $ENV{OBJCXX} clang++-19 clang++ clang++-21 clang++-20 clang++-18 clang++-17 clang++-16)
  find_path(GNUSTEP_INCLUDE_DIR Foundation/Foundation.h PATH_SUFFIXES GNUstep)
  find_library(GNUSTEP_BASE_LIBRARY gnustep-base)
  # The Objective-C runtime comes with GCC: the one that clang uses, else the newest.
  if(ORION_CLANGXX)
    execute_process(COMMAND ${ORION_CLANGXX} -v ERROR_VARIABLE clang_version OUTPUT_QUIET)
    string(REGEX MATCH "Selected GCC installation: ([^\n]+)" selected "${clang_version}")
    set(selected "${CMAKE_MATCH_1}")
  endif()
  file(GLOB gcc_directories LIST_DIRECTORIES true /usr/lib/gcc/*/*)
  list(SORT gcc_directories COMPARE NATURAL ORDER DESCENDING)
  list(PREPEND gcc_directories ${selected})
  list(TRANSFORM gcc_directories APPEND /include OUTPUT_VARIABLE gcc_includes)
  find_path(OBJC_INCLUDE_DIR objc/objc.h HINTS ${gcc_includes})
  find_library(OBJC_LIBRARY objc HINTS ${gcc_directories})
  if(NOT ORION_CLANGXX)
    list(APPEND objcxx_missing "clang++ (Debian: clang-19)")
  endif()
  if(NOT GNUSTEP_INCLUDE_DIR OR NOT GNUSTEP_BASE_LIBRARY)
    list(APPEND objcxx_missing "GNUstep base (Debian: libgnustep-base-dev)")
  endif()
  if(NOT OBJC_INCLUDE_DIR OR NOT OBJC_LIBRARY)
    list(APPEND objcxx_missing "the GCC Objective-C runtime (Debian: libobjc-12-dev)")
  endif()
  set(CMAKE_OBJCXX_COMPILER ${ORION_CLANGXX})
else()
  list(APPEND objcxx_missing "ORION_ANE=ON or AUTO, it is ${ORION_ANE}")
endif()

if(objcxx_missing)
  list(JOIN objcxx_missing ", " objcxx_missing)
  if(ORION_ANE AND NOT ORION_ANE STREQUAL "AUTO")
    message(FATAL_ERROR "ORION_ANE=ON, but missing: ${objcxx_missing}")
  endif()
  message(STATUS "The Neural Engine's framework is left out; missing: ${objcxx_missing}")
  return()
endif()

enable_language(OBJCXX)
set(CMAKE_OBJCXX_STANDARD 20)
set(CMAKE_OBJCXX_STANDARD_REQUIRED ON)
set(CMAKE_OBJCXX_EXTENSIONS OFF)
set(CMAKE_OBJCXX_VISIBILITY_PRESET hidden)

add_library(orion_foundation INTERFACE)
# SHELL keeps each group in order: of the two exception flags the last one wins.
target_compile_options(orion_foundation INTERFACE
  "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-fobjc-exceptions -fexceptions -fno-cxx-exceptions>"
  "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-Werror=objc-method-access -Werror=incompatible-pointer-types -Werror=unused-result>")
if(APPLE)
  target_compile_options(orion_foundation INTERFACE $<$<COMPILE_LANGUAGE:OBJCXX>:-fno-objc-arc>)
  set(orion_foundation_libraries "-framework Foundation")
else()
  # GCC's directory is searched last: it also holds intrinsics headers, which must lose to clang's.
  target_compile_options(orion_foundation INTERFACE
    "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-isystem ${GNUSTEP_INCLUDE_DIR}>"
    "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-idirafter ${OBJC_INCLUDE_DIR}>"
    "$<$<COMPILE_LANGUAGE:OBJCXX>:SHELL:-fobjc-runtime=gcc -fconstant-string-class=NSConstantString -fno-strict-aliasing>")
  target_compile_definitions(orion_foundation INTERFACE
    GNUSTEP GNUSTEP_BASE_LIBRARY=1 GNU_RUNTIME=1 _NATIVE_OBJC_EXCEPTIONS)
  set(orion_foundation_libraries ${GNUSTEP_BASE_LIBRARY} ${OBJC_LIBRARY})
endif()
set(ORION_HAVE_OBJCXX TRUE)
message(STATUS "The Neural Engine's framework is built with ${CMAKE_OBJCXX_COMPILER}")
