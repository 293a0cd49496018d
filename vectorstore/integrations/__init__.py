"""Other frameworks' interfaces over a store: LangChain and LlamaIndex. Each module needs its extra."""
