"""Does what the README tells a new user: puts its one JSON entry into a host's file, and asks the script through the port."""

import json
import re
import unittest
from pathlib import Path

from mesh import Agent, Mesh, ask, wait_for

README = Path(__file__).resolve().parents[2] / "README.md"


class OwnAgent(unittest.TestCase):
    def test_the_entry_in_the_readme_adds_a_rep_script(self) -> None:
        snippet = re.search(r"```json\n(.*?)```", README.read_text(), re.DOTALL).group(1)
        entry = json.loads("{" + snippet + "}")["agents"]["mine"]
        script = Agent(int(entry["endpoint"].rsplit(":", 1)[1]), lambda body: body.upper())
        mesh = Mesh({})
        try:
            mesh.kill("b")
            mesh.configs["b"]["agents"]["mine"] = entry
            mesh.start("b")
            wait_for(lambda: mesh.admin("b", "health")["agents"][0]["connected"], "the script to be connected")
            mesh.ports["mine"] = int(entry["port"].rsplit(":", 1)[1])
            self.assertEqual(ask(mesh.client("mine"), b"hello"), b"HELLO")
        finally:
            mesh.stop()
            script.stop()


if __name__ == "__main__":
    unittest.main()
