"""Other frameworks' interfaces over a store: LangChain, LlamaIndex, Haystack and MCP. Each module needs its extra."""
