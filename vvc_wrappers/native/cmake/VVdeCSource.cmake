# locate_vvdec_source(<variable>): the folder with the source of VVdeC 3.0.0, from VVDEC_SOURCE_DIR (cache or environment
# variable) or from the Rust crate vvdec-sys, which vendors it whole. Nothing of Rust is compiled.

set(VVDEC_SOURCE_DIR "" CACHE PATH "Source tree of VVdeC 3.0.0; empty: the environment variable of that name, or the crate")

set(_vvdec_crate vvdec-sys-0.7.0)
set(_vvdec_crate_sha256 18df9e7fd48eb13204c547ccd570774b701981878489779c9a427ee97579f24d)

function(locate_vvdec_source result)
  set(source "${VVDEC_SOURCE_DIR}")
  if(NOT source)
    set(source "$ENV{VVDEC_SOURCE_DIR}")
  endif()
  if(source)
    get_filename_component(source "${source}" ABSOLUTE BASE_DIR "${CMAKE_BINARY_DIR}")
    if(NOT EXISTS "${source}/source/Lib/vvdec/CMakeLists.txt")
      message(FATAL_ERROR "VVDEC_SOURCE_DIR is ${source}, which holds no source of VVdeC (no source/Lib/vvdec). "
                          "Point it at a VVdeC 3.0.0 source tree, or unset it to fetch the crate vvdec-sys with cargo.")
    endif()
  else()
    # What is compiled is unpacked here from the checked archive: cargo's own copy may be edited or swept at any time.
    set(source "${CMAKE_BINARY_DIR}/crate/${_vvdec_crate}/vvdec")
    set(unpacked "${CMAKE_BINARY_DIR}/crate/${_vvdec_crate}.unpacked")
    if(NOT EXISTS "${unpacked}")
      _fetch_vvdec_crate(archive)
      file(REMOVE_RECURSE "${CMAKE_BINARY_DIR}/crate/${_vvdec_crate}")
      file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${CMAKE_BINARY_DIR}/crate")
      file(TOUCH "${unpacked}")
    endif()
  endif()
  message(STATUS "VVdeC source: ${source}")
  set(${result} "${source}" PARENT_SCOPE)
endfunction()

function(_fetch_vvdec_crate result)
  set(two_ways "VVdeC 3.0.0 comes from VVDEC_SOURCE_DIR (set it to a source tree) or from the crate vvdec-sys 0.7.0 (needs "
               "cargo and its registry, or its download cache)")
  string(CONCAT two_ways ${two_ways})

  # rustup's folder is often on PATH of login shells only.
  find_program(CARGO_EXECUTABLE cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
  if(NOT CARGO_EXECUTABLE)
    message(FATAL_ERROR "No source of VVdeC: VVDEC_SOURCE_DIR is not set and cargo is not installed. ${two_ways}.")
  endif()

  # Only the archive is wanted, so empty packages stand in for what the crate's build script needs.
  set(folder "${CMAKE_BINARY_DIR}/crate/manifest")
  set(patches "")
  foreach(package IN ITEMS bindgen=0.71.0 cmake=0.1.0 system-deps=7.0.0)
    string(REGEX MATCH "(.*)=(.*)" _ "${package}")
    _write_cargo_package("${folder}/${CMAKE_MATCH_1}" "${CMAKE_MATCH_1}" "${CMAKE_MATCH_2}" "")
    string(APPEND patches "${CMAKE_MATCH_1} = { path = \"${CMAKE_MATCH_1}\" }\n")
  endforeach()
  set(manifest "${folder}/Cargo.toml")
  _write_cargo_package("${folder}" fetch-vvdec 0.0.0
    "[dependencies]\nvvdec-sys = \"=0.7.0\"\n\n[patch.crates-io]\n${patches}\n[workspace]\n")

  # A filled download cache needs no network.
  foreach(mode IN ITEMS --offline "")
    execute_process(COMMAND "${CARGO_EXECUTABLE}" fetch --quiet ${mode} --manifest-path "${manifest}"
                    RESULT_VARIABLE failed ERROR_VARIABLE reason OUTPUT_QUIET)
    if(NOT failed)
      break()
    endif()
  endforeach()
  if(failed)
    message(FATAL_ERROR "No source of VVdeC: VVDEC_SOURCE_DIR is not set and `cargo fetch` failed. ${two_ways}.\n${reason}")
  endif()

  execute_process(COMMAND "${CARGO_EXECUTABLE}" metadata --offline --format-version 1 --manifest-path "${manifest}"
                  OUTPUT_VARIABLE metadata ERROR_VARIABLE reason RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "No source of VVdeC: `cargo metadata` failed after `cargo fetch`. ${two_ways}.\n${reason}")
  endif()
  _crate_manifest("${metadata}" crate_manifest)

  # <cargo home>/registry/src/<index>/<crate>/Cargo.toml -> <cargo home>/registry/cache/<index>/<crate>.crate
  string(REGEX REPLACE "/registry/src/([^/]+)/([^/]+)/Cargo.toml$" "/registry/cache/\\1/\\2.crate" archive "${crate_manifest}")
  if(NOT archive MATCHES "\\.crate$" OR NOT EXISTS "${archive}")
    message(FATAL_ERROR "cargo gives the crate vvdec-sys as ${crate_manifest}, without the .crate archive to check. "
                        "Set VVDEC_SOURCE_DIR to a source tree of VVdeC 3.0.0 (the crate's vvdec folder is one).")
  endif()
  file(SHA256 "${archive}" digest)
  if(NOT digest STREQUAL _vvdec_crate_sha256)
    message(FATAL_ERROR "${archive} has SHA-256 ${digest}, expected ${_vvdec_crate_sha256}. Delete it and build again, or "
                        "set VVDEC_SOURCE_DIR to a source tree of VVdeC 3.0.0.")
  endif()
  set(${result} "${archive}" PARENT_SCOPE)
endfunction()

function(_write_cargo_package folder name version rest)
  file(WRITE "${folder}/Cargo.toml"
    "[package]\nname = \"${name}\"\nversion = \"${version}\"\nedition = \"2021\"\n\n[lib]\npath = \"empty.rs\"\n\n${rest}")
  file(WRITE "${folder}/empty.rs" "")
endfunction()

# Path of vvdec-sys' Cargo.toml in the JSON that `cargo metadata` prints.
function(_crate_manifest metadata result)
  string(JSON count LENGTH "${metadata}" packages)
  math(EXPR last "${count} - 1")
  foreach(index RANGE ${last})
    string(JSON name GET "${metadata}" packages ${index} name)
    if(name STREQUAL "vvdec-sys")
      string(JSON path GET "${metadata}" packages ${index} manifest_path)
      set(${result} "${path}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "`cargo metadata` lists no package vvdec-sys among its ${count}.")
endfunction()
