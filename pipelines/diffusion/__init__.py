"""The maths of diffusion, pure: functions of tensors and numbers, each with its equation and paper.

noise_level turns what a model says into x0 and back; noise_schedules says how much noise there is at which time;
sigma_schedules says which of the levels a run walks along, and solvers how it walks; losses is what models are trained
towards; guidance combines predictions; predictor is the contract between a model and the loops that ask it. Start at
noise_level.py. May import torch and the errors, nothing else of the project.
"""
