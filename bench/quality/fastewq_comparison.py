"""Six classifiers on the data set, by row and by model: what the paper's tables 3 and 5 show of its 700 rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import OptionError
from converter.plan.planners.fastewq.classifier import SEED, random_forest
from converter.plan.planners.fastewq.dataset import FEATURES, Dataset

PAPER_ACCURACY: Mapping[str, float] = {
    "logistic regression": 0.70,
    "SVM": 0.70,
    "random forest": 0.80,
    "gradient boosting": 0.75,
    "k nearest neighbours": 0.77,
    "Gaussian naive Bayes": 0.58,
}
"""Published accuracies on 210 rows, trained on 490 of the same models. Its gradient boosting is XGBoost's."""
FOLDS = 10


@dataclass(frozen=True)
class Score:
    """Quality of predictions for rows that the classifier had not seen."""

    accuracy: float
    precision: float
    """Precision of the class of quantised blocks."""
    recall: float
    f1: float
    confusion: tuple[int, int, int, int]
    """True and false negatives, false and true positives."""
    auc: float
    """Area under the ROC curve."""
    roc: tuple[NDArray[np.float64], NDArray[np.float64]]
    """False and true positive rates."""


def classifiers() -> dict[str, Any]:
    """Unfitted, each behind a standard scaler, by the names of PAPER_ACCURACY."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    plain = {
        "logistic regression": LogisticRegression(),
        "SVM": SVC(random_state=SEED),
        "gradient boosting": GradientBoostingClassifier(random_state=SEED),
        "k nearest neighbours": KNeighborsClassifier(),
        "Gaussian naive Bayes": GaussianNB(),
    }
    scaled = {name: make_pipeline(StandardScaler(), model) for name, model in plain.items()}
    return {name: scaled.get(name) or random_forest() for name in PAPER_ACCURACY}


def check_enough(dataset: Dataset) -> None:
    """Raises OptionError where folds would lack blocks of one kind."""
    least = min(sum(row.quantized == kind for row in dataset.rows) for kind in (False, True))
    if least < FOLDS:
        raise OptionError(
            f"{FOLDS} folds need {FOLDS} blocks of each kind, quantised and not; the data set has {least}"
        )
    for model in set(dataset.models):
        if len({row.quantized for row in dataset.rows if row.model_name != model}) < 2:
            raise OptionError(f"all blocks of one kind are of {model}, so it cannot be predicted from the others")


def by_row(dataset: Dataset) -> dict[str, Score]:
    """Ten folds with equal shares of quantised blocks. Blocks of a model are on both sides, as in the paper."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    return {name: _score(model, dataset, folds, None) for name, model in classifiers().items()}


def by_model(dataset: Dataset) -> dict[str, Score]:
    """Each model is predicted by what was learnt from all others: what a new model can expect."""
    from sklearn.model_selection import LeaveOneGroupOut

    return {name: _score(model, dataset, LeaveOneGroupOut(), dataset.models) for name, model in classifiers().items()}


def _score(model: Any, dataset: Dataset, folds: Any, groups: list[str] | None) -> Score:
    from sklearn import metrics
    from sklearn.base import clone

    truth = dataset.labels
    predicted, ranked = np.zeros_like(truth), np.zeros(len(truth))
    for train, test in folds.split(dataset.features, truth, groups):
        fitted = clone(model).fit(dataset.features[train], truth[train])
        predicted[test] = fitted.predict(dataset.features[test])
        if hasattr(fitted, "predict_proba"):
            ranked[test] = fitted.predict_proba(dataset.features[test])[:, 1]
        else:
            ranked[test] = fitted.decision_function(dataset.features[test])
    tn, fp, fn, tp = (int(n) for n in metrics.confusion_matrix(truth, predicted).ravel())
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, average="binary", zero_division=0
    )
    false_positive, true_positive, _ = metrics.roc_curve(truth, ranked)
    return Score(
        float(metrics.accuracy_score(truth, predicted)),
        float(precision),
        float(recall),
        float(f1),
        (tn, fn, fp, tp),
        float(metrics.roc_auc_score(truth, ranked)),
        (false_positive, true_positive),
    )


def majority(dataset: Dataset) -> float:
    """Accuracy of always giving the commoner answer."""
    share = float(dataset.labels.mean())
    return max(share, 1 - share)


def reproduced(dataset: Dataset) -> float:
    """Share of the data set's rows that the forest gives back when it is trained on all of them."""
    forest = random_forest().fit(dataset.features, dataset.labels)
    return float((forest.predict(dataset.features) == dataset.labels).mean())


def importances(dataset: Dataset) -> dict[str, float]:
    """Importance of each feature in the forest trained on everything; they add up to 1."""
    forest = random_forest().fit(dataset.features, dataset.labels)
    values = forest[-1].feature_importances_
    return {name: float(value) for name, value in zip(FEATURES, values, strict=True)}
