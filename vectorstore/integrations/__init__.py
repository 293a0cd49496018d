"""Other frameworks' interfaces over a store: LangChain, LlamaIndex and MCP. Each module needs its extra."""
