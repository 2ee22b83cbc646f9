"""Networks as ONNX, priced by operation.

onnx_file -> fusion -> operations -> trace -> predict
"""
