"""What it costs, and what is promised, to train with one loss over many ranks: `process_group`.

ranks.py         ranks that are simulated in one process, up to the collective itself
orders.py        the orders in which a collective may add
cases.py         losses, and a batch that is split over ranks unevenly
agreement.py     how far the orders, and one process, are apart
local_losses.py  how far the mean of the ranks' own losses is from the loss
traffic.py       bytes that are handed to collectives, and operations beside the kernels
published.py     figures of others, each with its source
latency.py       the time of a small all-reduce, modelled, and held against published times
shares.py        that beside the loss's own time and beside a step of training
sections.py      the tables of docs/scale.md
"""
