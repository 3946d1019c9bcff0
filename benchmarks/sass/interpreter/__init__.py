"""An interpreter of sm_90 machine code: a block on the CPU, 32 lanes as one numpy array.

block.py     the warps of a block, its barriers, its shared memory and its constants
warp.py      what a warp is, and how it goes through its instructions
trace.py     what is written down of that
memory.py    global, shared and local memory
operands.py  the operands of an instruction, as functions of a warp
control.py   branches, barriers, calls
opcodes.py   the table of all other instructions
integers.py, floats.py, conversions.py, access.py  what they compute

There is no public description of this machine code beyond a list of its opcodes (CUDA Binary
Utilities, "Instruction Set Reference"). What each does follows from PTX, whose instructions have
the same names, and is held by what whole kernels compute (tests/cuda/test_machine_code.py). An
opcode, a modifier or an operand that is not known is an error where it is executed.
"""
