# Installs BUILD, of configuration CONFIG, somewhere, and moves all of it to PREFIX.
if(CONFIG)
    set(config --config ${CONFIG})
endif()
file(REMOVE_RECURSE ${PREFIX} ${PREFIX}.before)
execute_process(
    COMMAND ${CMAKE_COMMAND} --install ${BUILD} ${config} --prefix ${PREFIX}.before
    COMMAND_ERROR_IS_FATAL ANY
)
file(RENAME ${PREFIX}.before ${PREFIX})
