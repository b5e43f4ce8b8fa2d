"""The parts of ``python -m benchmarks.gpu``: each fills what it finds into a dictionary.

scale.py         how much is measured, on which device
turns.py         timing in turns
drawing.py       Stable Diffusion 1.5, SDXL and DiT-XL with random weights, unguided and guided
training.py      distillation beside a bare loop
workers.py       two processes on one device
correctness.py   whether the embedded images are right, the tests that need a GPU, and the machine
"""
