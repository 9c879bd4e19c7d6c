import recluster = require('./index.js');

export default recluster;

export type ActiveWorkers = recluster.ActiveWorkers;
export type Balancer = recluster.Balancer;
export type BalancerOptions = recluster.BalancerOptions;
export type Cluster = recluster.Cluster;
export type Events = recluster.Events;
export type Logger = recluster.Logger;
export type Options = recluster.Options;
export type ReloadError = recluster.ReloadError;
export type Status = recluster.Status;
export type WorkerStatus = recluster.WorkerStatus;
