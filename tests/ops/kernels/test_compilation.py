"""The Triton kernels in Triton's compiler, which needs no GPU and accepts less than the interpreter."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")

# In a separate process, since Triton decides at import whether to interpret.
PROGRAM = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from transxnet.ops.kernels import attention_kernels, depthwise_kernels

capability, dtype = int(sys.argv[1]), sys.argv[2]
single = ("w_ptr", "b_ptr", "bias_ptr", "lse_ptr", "delta_ptr", "dk_ptr", "dv_ptr", "dw_ptr", "db_ptr", "dbias_ptr")


def compile(kernel, **constants):
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = {}
    for name in kernel.arg_names:
        types[name] = "*fp32" if name in single else "*" + dtype if name.endswith("_ptr") else "i32"
    source = ASTSource(kernel, signature=types | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})


for K in (1, 7):
    tile = dict(K=K, ROWS=7, BLOCK_W=8, BLOCK_C=32, x_c=1, g_c=1, out_c=1, w_c=1)
    compile(depthwise_kernels._forward, FLIP=True, BIAS=True, IDENTITY=True, GELU=True, **tile)
    compile(depthwise_kernels._weight_gradient, **tile)
blocks = dict(d=24, D=32, SCALE=0.2, BIAS=True, BLOCK_N=64, BLOCK_M=64, q_d=1, k_d=1, v_d=1, g_d=1, out_d=1)
for one_block in (True, False):
    compile(attention_kernels._forward, ONE_BLOCK=one_block, **blocks)
    compile(attention_kernels._query_gradient, ONE_BLOCK=one_block, **blocks)
compile(attention_kernels._key_gradient, **blocks)
compile(attention_kernels._bias_gradient, **blocks)
"""


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles(capability, dtype):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(capability), dtype], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
