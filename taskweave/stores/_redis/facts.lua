-- Facts: what the store itself knows: how many jobs, what aging is worth, the version of its schema.

return { call('ZCARD', P .. 'all'), aging and int(aging) or false, call('HGET', KEYS[1], 'version') }
