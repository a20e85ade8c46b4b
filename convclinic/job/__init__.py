"""The main job, end to end: data, check-up, plan, training, evaluation, report. It only composes."""
