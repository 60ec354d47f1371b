"""A model on several machines: the precision and the place of every block."""

from converter.plan.cluster.machines import Machine, parse_machines
from converter.plan.cluster.plan_cluster import ClusterPlan, plan_cluster

__all__ = ["ClusterPlan", "Machine", "parse_machines", "plan_cluster"]
