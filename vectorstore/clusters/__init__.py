"""Clusters: partitions of vectors, their quality, their names, their files. The one door to scikit-learn and joblib.

Nothing here knows a store. The libraries are imported when a function needs them: opening a store costs nothing.
"""

from vectorstore.clusters.fitting import Partition, fit, prepared
from vectorstore.clusters.labels import terms
from vectorstore.clusters.matching import continued
from vectorstore.clusters.quality import (
    against,
    agreement,
    mean_coherence,
    population_shift,
    shape,
    silhouette,
    stability,
)
from vectorstore.clusters.recipes import (
    BUILTIN_CLUSTER_RECIPES,
    ClusterRecipe,
    as_cluster_recipe,
    load_cluster_recipe,
)
from vectorstore.clusters.rule import NOISE, Rule
from vectorstore.clusters.trying import tried

__all__ = [
    "BUILTIN_CLUSTER_RECIPES",
    "NOISE",
    "ClusterRecipe",
    "Partition",
    "Rule",
    "against",
    "agreement",
    "as_cluster_recipe",
    "continued",
    "fit",
    "load_cluster_recipe",
    "mean_coherence",
    "population_shift",
    "prepared",
    "shape",
    "silhouette",
    "stability",
    "terms",
    "tried",
]
