"""Training: recipe, loop, distillation, logs, and the folder that a run lives in."""
