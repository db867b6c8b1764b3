"""What `import vtbench` offers: evaluate, score, wrap, and the results of them."""
