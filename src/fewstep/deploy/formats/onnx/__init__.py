"""A program as an ONNX model, and acting with onnxruntime."""
