"""A scikit-learn pipeline as training code: a function whose keyword arguments are the settings."""

from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler


def run(model: str, alpha: float = 1.0, interactions: bool = False, *, seed: int):
    features, targets = load_diabetes(return_X_y=True, scaled=False)
    rest_x, test_x, rest_y, test_y = train_test_split(features, targets, test_size=0.25, random_state=seed)
    train_x, dev_x, train_y, dev_y = train_test_split(rest_x, rest_y, test_size=0.25, random_state=seed)
    steps = [StandardScaler()]
    if interactions:
        steps.append(PolynomialFeatures(2, interaction_only=True, include_bias=False))
    last = Ridge(alpha) if model == "ridge" else HistGradientBoostingRegressor(max_iter=30, random_state=seed)
    fitted = make_pipeline(*steps, last).fit(train_x, train_y)
    return {
        "test_rmse": root_mean_squared_error(test_y, fitted.predict(test_x)),
        "dev_rmse": root_mean_squared_error(dev_y, fitted.predict(dev_x)),
        "data": f"diabetes, split by seed, {features.sum():.3f}",
    }
