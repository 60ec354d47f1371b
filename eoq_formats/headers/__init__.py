"""Writers of the formats' constants and tables for compilers: C, CUDA and Metal, and Vulkan's shaders."""
