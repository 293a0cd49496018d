"""What can be asked of knowledge beyond the verbs: each part is thin functions over the collections of a store."""

from vectorstore.reason.maps import Maps
from vectorstore.reason.models import Models
from vectorstore.reason.reasoner import Reasoner
from vectorstore.reason.shelves import REASONERS, Shelves, collection_of

__all__ = ["REASONERS", "Maps", "Models", "Reasoner", "Shelves", "collection_of"]
