"""tools/run: two hosts on one computer, the demo agents on both, and the same traffic by the mesh and the old way."""
