"""The ONNX front end: a file becomes the same float graph that PyTorch's export does."""
