"""The Lovász losses (appendix A): the convex extension of the Jaccard loss of a set of mispredicted
pixels, by sorting their errors, one class at a time.

    modules.py      the losses as modules, options.py their options; functional.py has the functions
    call.py         tensors checked, a backend chosen, values of the classes -> loss
    extension.py    the mathematics: errors of one class -> value and slopes, by counting
    reference.py    the values of the classes in plain PyTorch, differentiable as often as one likes
    by_class.py     the same on any device with one class in memory at a time
    operators.py    operators around by_class.py and the CPU kernels, with their gradients
"""
