"""What does the controller tell Prometheus about itself and its fleets?

Gauges show the newest status of each fleet, counters what happened since the process started. What is not known has no
sample, never a zero. Durations are in seconds of the controller's clock, ratios from 0 to 1.

    name                                                  type       labels
    pd_autoscaler_build_info                              gauge      version
    pd_autoscaler_fleets                                  gauge
    pd_autoscaler_tick_duration_seconds                   histogram
    pd_autoscaler_tick_interval_seconds                   gauge
    pd_autoscaler_last_tick_timestamp_seconds             gauge
    pd_autoscaler_ticks_total                             counter
    pd_autoscaler_ticks_skipped_total                     counter
    pd_autoscaler_status_writes_total                     counter    result
    pd_autoscaler_internal_errors_total                   counter
    pd_autoscaler_arima_fits_total                        counter    result
    pd_autoscaler_arima_warnings_total                    counter
    pd_autoscaler_arima_worker_restarts_total             counter
    pd_autoscaler_mode_info                               gauge      fleet mode
    pd_autoscaler_condition                               gauge      fleet condition
    pd_autoscaler_condition_info                          gauge      fleet condition reason
    pd_autoscaler_offered_requests_per_second             gauge      fleet
    pd_autoscaler_rejected_requests_per_second            gauge      fleet
    pd_autoscaler_verdicts_per_second                     gauge      fleet mode decision reason class
    pd_autoscaler_hindsight_ratio                         gauge      fleet what end
    pd_autoscaler_forecast_mean_requests_per_second       gauge      fleet
    pd_autoscaler_forecast_upper_requests_per_second      gauge      fleet
    pd_autoscaler_cached_share_ratio                      gauge      fleet
    pd_autoscaler_cached_share_forecast_ratio             gauge      fleet
    pd_autoscaler_cached_share_quarantined                gauge      fleet
    pd_autoscaler_asleep                                  gauge      fleet
    pd_autoscaler_budget_gpus                             gauge      fleet
    pd_autoscaler_held_gpus                               gauge      fleet role
    pd_autoscaler_replicas                                gauge      fleet role phase
    pd_autoscaler_missing_replicas                        gauge      fleet role lack
    pd_autoscaler_startup_seconds                         gauge      fleet role
    pd_autoscaler_desired_replicas                        gauge      fleet role
    pd_autoscaler_target_replicas                         gauge      fleet role
    pd_autoscaler_recommended_replicas                    gauge      fleet role
    pd_autoscaler_min_replicas                            gauge      fleet role
    pd_autoscaler_min_in_force_replicas                   gauge      fleet role
    pd_autoscaler_max_replicas                            gauge      fleet role
    pd_autoscaler_demand_replicas                         gauge      fleet role
    pd_autoscaler_demand_lasting_replicas                 gauge      fleet role
    pd_autoscaler_demand_soon_replicas                    gauge      fleet role
    pd_autoscaler_demand_bound_info                       gauge      fleet role bound
    pd_autoscaler_load_tokens_per_second                  gauge      fleet role
    pd_autoscaler_forecast_mean_tokens_per_second         gauge      fleet role
    pd_autoscaler_forecast_upper_tokens_per_second        gauge      fleet role
    pd_autoscaler_forecast_error_tokens_per_second        gauge      fleet role
    pd_autoscaler_forecast_coverage_ratio                 gauge      fleet role
    pd_autoscaler_forecast_horizon_seconds                gauge      fleet role
    pd_autoscaler_forecast_model_info                     gauge      fleet role model
    pd_autoscaler_speed_measured_ratio                    gauge      fleet role
    pd_autoscaler_speed_applied_ratio                     gauge      fleet role
    pd_autoscaler_speed_confidence                        gauge      fleet role
    pd_autoscaler_flips_in_flight                         gauge      fleet from_role to_role
    pd_autoscaler_flip_age_seconds                        gauge      fleet from_role to_role
    pd_autoscaler_waiting_requests                        gauge      fleet role
    pd_autoscaler_running_requests                        gauge      fleet role
    pd_autoscaler_kv_usage_ratio                          gauge      fleet role
    pd_autoscaler_signal_age_seconds                      gauge      fleet role
    pd_autoscaler_latency_seconds                         gauge      fleet slo source
    pd_autoscaler_latency_samples                         gauge      fleet slo source
    pd_autoscaler_slo_attainment_ratio                    gauge      fleet slo source
    pd_autoscaler_slo_threshold_seconds                   gauge      fleet slo
    pd_autoscaler_slo_objective_ratio                     gauge      fleet slo
    pd_autoscaler_actions_total                           counter    fleet role direction verdict
    pd_autoscaler_flips_total                             counter    fleet from_role to_role verdict
    pd_autoscaler_reversals_total                         counter    fleet role
    pd_autoscaler_transactions_total                      counter    fleet kind result
    pd_autoscaler_forced_requests_total                   counter    fleet role
    pd_autoscaler_holds_total                             counter    fleet role reason

`fleet` is namespace/name. `source` is who measured: the gateway (what users see) or a role's engines. `phase`, `lack`,
`bound`, `reason`, `verdict`, `direction` and `model` come from closed lists of ours; nothing a client sends becomes a
label, and no text of the cluster's.
A target is what the controller acts on (mode Auto); in mode Recommend the same number is called a recommendation, so that
no rule built on targets can act on it; in mode Off there is neither. Beside these the page has the process' own CPU and
memory (`process_*`).

A fleet that is managed no more is gone from the page at the next tick. A fleet not reported for 300 s, Prometheus' own
patience with a silent series, is gone too: a controller that hangs, or that leads no longer, must not look like news.
"""

from autoscaler.adapters.own_metrics.fits import Fits
from autoscaler.adapters.own_metrics.sink import OwnMetrics

__all__ = ["Fits", "OwnMetrics"]
