"""What the command line runs: demo, infer, render, train, evaluate, bench."""
