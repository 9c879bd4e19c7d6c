import recluster from './index.js';

export default recluster;
