"""Earlier data-free methods, each in a file, on the same teacher and student as PRISM.

problem.py         what a rival gets, and what it gives: batches of images with their labels, round by round
race.py            a rival with a budget: its rounds, its own student between them, and the seconds
pieces.py          what several of them are made of: batch-norm statistics, the adversarial term, views, the generator
noise.py           smooth noise, the floor
deep_inversion.py  pixels (Yin et al. 2020)
cmi.py             contrastive model inversion (Fang et al. 2021)
fast.py            a generator that is learned to be learned (Fang et al. 2022)
nayer.py           class names in a generator that is always begun anew (Tran et al. 2024)
dafl.py            a generator that makes the teacher sure (Chen et al. 2019)
diff_dfkd.py       a diffusion model guided through its denoiser (Qi et al. 2025)

Plain prompts (DM-KD), filter and more are methods of prismkd. Formulas and settings are the authors', from their papers
and their public code; what is adapted to small images and budgets stands in each file. Weights of the batch-norm term
are one setting for all (``pieces.BATCH_NORM_WEIGHT``).
"""
