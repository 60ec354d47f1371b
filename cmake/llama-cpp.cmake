# llama_cpp: fetches, patches and builds the pinned llama.cpp in the cache folder ($EOQ_CACHE or ~/.cache/eoq).
# Not part of `all`: cmake --build BUILD --target llama_cpp
set(EOQ_PYTHON_HINT "${PROJECT_SOURCE_DIR}/.venv/bin")
find_program(EOQ_PYTHON NAMES python3 HINTS "${EOQ_PYTHON_HINT}" DOC "Python 3.11 or newer, with pip, for llama_cpp")

if(EOQ_PYTHON)
    add_custom_target(
        llama_cpp
        COMMAND "${EOQ_PYTHON}" -m ggml_patch.build
        WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
        USES_TERMINAL
        VERBATIM)
endif()
