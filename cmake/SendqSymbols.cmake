# Writes a version script that exports the functions which `header` declares, under `version`, and
# nothing else. Sets `script_variable` to its path and `functions_variable` to the functions.
function(sendq_write_version_script header version script_variable functions_variable)
    # A declaration starts its line, a comment or a parameter does not. What is inline is not exported.
    file(READ ${PROJECT_SOURCE_DIR}/${header} text)
    string(REGEX REPLACE "static inline[^}]*}" "" text "${text}")
    string(REGEX MATCHALL "\n[a-z][a-z0-9_ *]*[ *]sendq_[a-z0-9_]+\\(" functions "${text}")
    list(TRANSFORM functions REPLACE "^.*[ *](sendq_[a-z0-9_]+)\\(" "\\1")
    list(SORT functions)
    list(JOIN functions "; " names)
    set(script ${PROJECT_BINARY_DIR}/sendq.map)
    file(CONFIGURE OUTPUT ${script} CONTENT "@version@ { global: @names@; local: *; };\n" @ONLY)
    set(${script_variable} ${script} PARENT_SCOPE)
    set(${functions_variable} ${functions} PARENT_SCOPE)
endfunction()
