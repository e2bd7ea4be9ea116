"""Write the contract's documents beside this file."""

from edge_app.contract.schemas import FOLDER, documents

for name, text in documents().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
