// What a Vulkan driver's compiler makes of a compute shader: the statistics of VK_KHR_pipeline_executable_properties.
//
// shader_statistics SHADER.spv BINDINGS CONSTANT...
//
// The shader has so many storage buffers at bindings from 0 on, and specialization constants from id 0 on. Nothing is
// run, so Mesa's drivers without hardware do (RADV_FORCE_FAMILY). One line a statistic: its name, a tab, its value.

#include <vulkan/vulkan.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

static void check(VkResult result, const char * what) {
    if (result != VK_SUCCESS) {
        fprintf(stderr, "error: %s failed with VkResult %d\n", what, result);
        exit(1);
    }
}

static double number(const VkPipelineExecutableStatisticKHR & s) {
    switch (s.format) {
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
            return s.value.b32;
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
            return (double) s.value.i64;
        case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
            return (double) s.value.u64;
        default:
            return s.value.f64;
    }
}

static VkDevice create_device(VkPhysicalDevice & physical) {
    VkApplicationInfo app    = { VK_STRUCTURE_TYPE_APPLICATION_INFO };
    app.apiVersion           = VK_API_VERSION_1_3;
    VkInstanceCreateInfo how = { VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO };
    how.pApplicationInfo     = &app;
    VkInstance instance;
    check(vkCreateInstance(&how, nullptr, &instance), "vkCreateInstance");
    uint32_t count = 1;
    if (vkEnumeratePhysicalDevices(instance, &count, &physical) < 0 || count == 0) {
        fprintf(stderr, "error: there is no Vulkan device\n");
        exit(1);
    }
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    printf("device\t%s\n", properties.deviceName);

    // whatever the device has: shaders of half precision, of small integers, of subgroups
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables = {
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR
    };
    VkPhysicalDeviceVulkan13Features of_13    = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES, &executables };
    VkPhysicalDeviceVulkan12Features of_12    = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, &of_13 };
    VkPhysicalDeviceVulkan11Features of_11    = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, &of_12 };
    VkPhysicalDeviceFeatures2        features = { VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &of_11 };
    vkGetPhysicalDeviceFeatures2(physical, &features);
    if (!executables.pipelineExecutableInfo) {
        fprintf(stderr, "error: the driver tells no statistics\n");
        exit(1);
    }

    const float             priority = 1.0f;
    VkDeviceQueueCreateInfo queue    = { VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO };
    queue.queueCount                 = 1;
    queue.pQueuePriorities           = &priority;
    const char *       extension     = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    VkDeviceCreateInfo create        = { VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &features };
    create.queueCreateInfoCount      = 1;
    create.pQueueCreateInfos         = &queue;
    create.enabledExtensionCount     = 1;
    create.ppEnabledExtensionNames   = &extension;
    VkDevice device;
    check(vkCreateDevice(physical, &create, nullptr, &device), "vkCreateDevice");
    return device;
}

static VkPipeline create_pipeline(VkDevice                      device,
                                  const std::vector<char> &     code,
                                  uint32_t                      bindings,
                                  const std::vector<uint32_t> & constants) {
    VkShaderModuleCreateInfo of_module = { VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO };
    of_module.codeSize                 = code.size();
    of_module.pCode                    = (const uint32_t *) code.data();
    VkShaderModule module;
    check(vkCreateShaderModule(device, &of_module, nullptr, &module), "vkCreateShaderModule");

    std::vector<VkDescriptorSetLayoutBinding> slots;
    for (uint32_t i = 0; i < bindings; ++i) {
        slots.push_back({ i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr });
    }
    VkDescriptorSetLayoutCreateInfo of_set = { VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO };
    of_set.bindingCount                    = bindings;
    of_set.pBindings                       = slots.data();
    VkDescriptorSetLayout set;
    check(vkCreateDescriptorSetLayout(device, &of_set, nullptr, &set), "vkCreateDescriptorSetLayout");

    const VkPushConstantRange  range     = { VK_SHADER_STAGE_COMPUTE_BIT, 0, 128 };
    VkPipelineLayoutCreateInfo of_layout = { VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO };
    of_layout.setLayoutCount             = 1;
    of_layout.pSetLayouts                = &set;
    of_layout.pushConstantRangeCount     = 1;
    of_layout.pPushConstantRanges        = &range;
    VkPipelineLayout layout;
    check(vkCreatePipelineLayout(device, &of_layout, nullptr, &layout), "vkCreatePipelineLayout");

    std::vector<VkSpecializationMapEntry> entries;
    for (uint32_t i = 0; i < constants.size(); ++i) {
        entries.push_back({ i, 4 * i, 4 });
    }
    const VkSpecializationInfo  special = { (uint32_t) entries.size(), entries.data(), 4 * constants.size(),
                                            constants.data() };
    VkComputePipelineCreateInfo create  = { VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO };
    create.flags                        = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
    create.stage                        = { VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                            nullptr,
                                            0,
                                            VK_SHADER_STAGE_COMPUTE_BIT,
                                            module,
                                            "main",
                                            &special };
    create.layout                       = layout;
    VkPipeline pipeline;
    check(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &create, nullptr, &pipeline), "vkCreateComputePipelines");
    return pipeline;
}

int main(int argc, char ** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: shader_statistics SHADER.spv BINDINGS CONSTANT...\n");
        return 2;
    }
    std::ifstream           file(argv[1], std::ios::binary);
    const std::vector<char> code((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<uint32_t>   constants;
    for (int i = 3; i < argc; ++i) {
        constants.push_back((uint32_t) strtoul(argv[i], nullptr, 10));
    }
    if (code.empty()) {
        fprintf(stderr, "error: there is no shader in %s\n", argv[1]);
        return 1;
    }
    VkPhysicalDevice physical;
    const VkDevice   device   = create_device(physical);
    const VkPipeline pipeline = create_pipeline(device, code, (uint32_t) atoi(argv[2]), constants);

    const auto statistics =
        (PFN_vkGetPipelineExecutableStatisticsKHR) vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR");
    const VkPipelineExecutableInfoKHR which = { VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, nullptr, pipeline, 0 };
    uint32_t                          count = 0;
    check(statistics(device, &which, &count, nullptr), "vkGetPipelineExecutableStatisticsKHR");
    std::vector<VkPipelineExecutableStatisticKHR> all(count, { VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR });
    check(statistics(device, &which, &count, all.data()), "vkGetPipelineExecutableStatisticsKHR");
    for (const auto & s : all) {
        printf("%s\t%.17g\n", s.name, number(s));
    }
    return 0;
}
