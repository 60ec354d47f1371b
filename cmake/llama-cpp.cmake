# llama_cpp: fetches, patches and builds the pinned llama.cpp in the cache folder ($EOQ_CACHE or ~/.cache/eoq).
# Not part of `all`: cmake --build BUILD --target llama_cpp
# With -DEOQ_CUDA=ON it is built with CUDA, for the GPUs of CMAKE_CUDA_ARCHITECTURES (this machine's unless that is set);
# among its programs is the kernel laboratory, eoq-lab.
option(EOQ_CUDA "build llama.cpp with CUDA" OFF)
set(EOQ_BUILD_ARGUMENTS "")
if(EOQ_CUDA)
    set(EOQ_BUILD_ARGUMENTS --cuda)
    if(CMAKE_CUDA_ARCHITECTURES)
        list(JOIN CMAKE_CUDA_ARCHITECTURES "$<SEMICOLON>" EOQ_ARCHITECTURES)
        list(APPEND EOQ_BUILD_ARGUMENTS "${EOQ_ARCHITECTURES}")
    endif()
endif()
set(EOQ_PYTHON_HINT "${PROJECT_SOURCE_DIR}/.venv/bin")
find_program(EOQ_PYTHON NAMES python3 HINTS "${EOQ_PYTHON_HINT}" DOC "Python 3.11 or newer, with pip, for llama_cpp")

if(EOQ_PYTHON)
    add_custom_target(
        llama_cpp
        COMMAND "${EOQ_PYTHON}" -m llama_programs.build ${EOQ_BUILD_ARGUMENTS}
        WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
        USES_TERMINAL
        VERBATIM)
endif()
