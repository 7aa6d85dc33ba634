# Has cargo build the crate into a static library.

find_program(
    SENDQ_CARGO
    NAMES $ENV{CARGO} cargo
    PATHS ENV CARGO_HOME $ENV{HOME}/.cargo
    PATH_SUFFIXES bin
    DOC "The cargo that builds sendq"
)
mark_as_advanced(SENDQ_CARGO)
file(STRINGS Cargo.toml sendq_rust REGEX "^rust-version = ")
string(REGEX MATCH "[0-9.]+" sendq_rust "${sendq_rust}")
if(NOT SENDQ_CARGO)
    message(FATAL_ERROR "sendq is written in Rust and needs cargo ${sendq_rust} or later: install "
                        "it (https://rustup.rs), or set CARGO to where it is."
    )
endif()

# In the source directory, because that is where rustup chooses a toolchain for.
execute_process(
    COMMAND ${SENDQ_CARGO} --version --verbose
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE sendq_cargo_version COMMAND_ERROR_IS_FATAL ANY
)
string(REGEX REPLACE ".*release: ([0-9.]+).*" "\\1" sendq_found "${sendq_cargo_version}")
string(REGEX REPLACE ".*host: ([^\n]+).*" "\\1" sendq_host "${sendq_cargo_version}")
if(sendq_found VERSION_LESS sendq_rust)
    message(FATAL_ERROR "sendq needs cargo ${sendq_rust} or later; ${SENDQ_CARGO} is "
                        "${sendq_found}. Update it, or set CARGO to a newer one."
    )
endif()

# Always passed: flags of the environment then reach the library only, not cargo's build scripts,
# and the place of the result does not depend on cargo's configuration.
set(SENDQ_CARGO_TARGET ${sendq_host} CACHE STRING "The target triple that sendq is built for")
set(SENDQ_CARGO_FLAGS "" CACHE STRING "Further arguments of cargo, a list")
set(SENDQ_CARGO_TARGET_DIR ${PROJECT_BINARY_DIR}/cargo CACHE PATH "Where cargo builds sendq")
mark_as_advanced(SENDQ_CARGO_TARGET SENDQ_CARGO_FLAGS SENDQ_CARGO_TARGET_DIR)

# Adds the target `target` that builds the static library, and says in `archive_variable` where.
function(sendq_add_archive target archive_variable)
    # Cargo's own depfile knows neither Cargo.toml nor Cargo.lock.
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.rs)
    list(APPEND sources Cargo.toml Cargo.lock build.rs cbindgen.toml)
    list(TRANSFORM sources REPLACE "^([^/].*)" "${PROJECT_SOURCE_DIR}/\\1")

    set(debug $<CONFIG:Debug>)
    set(built ${SENDQ_CARGO_TARGET_DIR}/${SENDQ_CARGO_TARGET}/$<IF:${debug},debug,release>)
    # A copy, because cargo leaves its own file and time alone when a change is none to it, which
    # would look out of date forever.
    get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
    if(multi_config)
        set(archive ${PROJECT_BINARY_DIR}/$<CONFIG>/libsendq.a)
    else()
        set(archive ${PROJECT_BINARY_DIR}/libsendq.a)
    endif()
    add_custom_command(
        OUTPUT ${archive}
        COMMAND
            ${SENDQ_CARGO} rustc --lib --crate-type staticlib --locked
            --profile $<IF:${debug},dev,release> --target ${SENDQ_CARGO_TARGET}
            --target-dir ${SENDQ_CARGO_TARGET_DIR} ${SENDQ_CARGO_FLAGS}
        COMMAND ${CMAKE_COMMAND} -E copy ${built}/libsendq.a ${archive}
        DEPENDS ${sources}
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
        COMMENT "Building libsendq.a with cargo"
        USES_TERMINAL VERBATIM
    )
    add_custom_target(${target} DEPENDS ${archive})
    set(${archive_variable} ${archive} PARENT_SCOPE)
endfunction()
