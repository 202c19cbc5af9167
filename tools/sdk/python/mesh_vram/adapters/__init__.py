"""Servers that load models by themselves, made to lease the memory and to give it back: Ollama, llama-server, vLLM.

    python3 -m mesh_vram.adapters ollama --url http://127.0.0.1:11434 --listen 127.0.0.1:11435

For each model that the server has loaded the adapter holds a lease. When others need the memory it has the server unload
the model (vLLM: sleep), sees that it is gone, and only then says so. With --listen it is a front besides: a request for a
model that is not loaded waits until there is memory for it. `--help` tells the rest.
"""
