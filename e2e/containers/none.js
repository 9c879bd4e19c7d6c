throw new Error('this server does not start');
