"""Backends without EOQ kernels deny every op that touches an EOQ tensor, so that the layer goes to the CPU.

BLAS stays: it multiplies what to_float gives. RPC passes everything on, so its server refuses in their place.
"""

from dataclasses import replace

from ggml_patch.edit import Edit
from ggml_patch.edits.cuda import NEW_MMQ
from ggml_patch.edits.vulkan import NEW_VULKAN

_INCLUDE = '#include "ggml-eoq.h"'
_DENY = """
    if (ggml_op_uses_eoq(op)) {
        return false; // no EOQ kernels
    }
"""


def _deny(path: str, function: str, include_after: str, optional: bool = True) -> list[Edit]:
    """Edits that let `function`, a supports_op, deny first of all."""
    return [
        Edit(path=f"ggml/src/{path}", anchor=include_after, lines=_INCLUDE, optional=optional),
        Edit(
            path=f"ggml/src/{path}",
            anchor=rf"^(static )?bool {function}\(.*const (struct )?ggml_tensor \* op\) \{{$",
            lines=_DENY,
            optional=optional,
        ),
    ]


_IMPL = r'^#include "ggml-impl\.h"'

EDITS = [
    # CUDA has kernels (cuda.py) for the layout of the versions since the matrix products have tables of configurations
    *(
        replace(edit, unless=NEW_MMQ)
        for edit in _deny("ggml-cuda/ggml-cuda.cu", "ggml_backend_cuda_device_supports_op", _IMPL, optional=False)
    ),
    *_deny(
        "ggml-metal/ggml-metal-device.m",
        "ggml_metal_device_supports_op",
        r'^#import "ggml-impl\.h"',
        optional=False,
    ),
    # and so has Vulkan (vulkan.py), since its matrix products have one shader for all quantised types
    *(
        replace(edit, unless=NEW_VULKAN)
        for edit in _deny(
            "ggml-vulkan/ggml-vulkan.cpp",
            "ggml_backend_vk_device_supports_op",
            r'^#include "ggml-vulkan\.h"',
            optional=False,
        )
    ),
    *_deny("ggml-sycl/ggml-sycl.cpp", "ggml_backend_sycl_device_supports_op", _IMPL),
    *_deny("ggml-opencl/ggml-opencl.cpp", "ggml_backend_opencl_device_supports_op", _IMPL),
    *_deny("ggml-cann/ggml-cann.cpp", "ggml_backend_cann_supports_op", _IMPL),
    *_deny("ggml-webgpu/ggml-webgpu.cpp", "ggml_backend_webgpu_device_supports_op", _IMPL),
    *_deny("ggml-hexagon/ggml-hexagon.cpp", "ggml_backend_hexagon_device_supports_op", _IMPL),
    *_deny("ggml-openvino/ggml-openvino.cpp", "ggml_backend_openvino_device_supports_op", _IMPL),
    *_deny("ggml-zdnn/ggml-zdnn.cpp", "ggml_backend_zdnn_device_supports_op", _IMPL),
    *_deny("ggml-zendnn/ggml-zendnn.cpp", "ggml_backend_zendnn_device_supports_op", _IMPL),
    *_deny("ggml-et/ggml-et.cpp", "ggml_backend_et_device_supports_op", _IMPL),
    *_deny(
        "ggml-virtgpu/ggml-backend-device.cpp",
        "ggml_backend_remoting_device_supports_op",
        r'^#include "ggml-remoting\.h"',
    ),
    Edit(path="ggml/src/ggml-rpc/ggml-rpc.cpp", anchor=_IMPL, lines=_INCLUDE),
    Edit(
        path="ggml/src/ggml-rpc/ggml-rpc.cpp",
        anchor=r"^    ggml_status status = ggml_backend_graph_compute\(backends\[device\], graph\);",
        within=r"^bool rpc_server::graph_compute\(",
        where="before",
        lines=r"""
    // the client cannot ask whether this device has EOQ kernels: refuse here rather than abort in one
    for (uint32_t i = 0; i < n_nodes; i++) {
        const ggml_tensor * node = graph->nodes[i];
        if (node != nullptr && ggml_op_uses_eoq(node) && !ggml_backend_supports_op(backends[device], node)) {
            GGML_LOG_ERROR("[%s] device %u has no EOQ kernel for '%s' (%s)\n", __func__, device,
                    node->name, ggml_op_desc(node));
            return false;
        }
    }
""",
    ),
]
