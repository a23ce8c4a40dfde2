"""The fused training step: decoder layers with a hand-written backward, for memory and speed.

`model` joins the parts: `weights` (frozen linears with their adapters as one matrix), `layer` (forward and backward of
a decoder layer), `attend` (attention over packs), `head` (loss at label positions), `graph` (a whole pass as one CUDA
graph). Element-wise work is in `plain` (torch, any device) and `kernels` (Triton, CUDA); attention in Triton is in
`flash`, over the `spans` of a pack, and 4-bit weights are unpacked in `unpack`.
"""
