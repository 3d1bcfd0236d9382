-- Resume: the queue's jobs may be claimed again; 1 if it changed anything.

local queue = arg()
wake(queue)
return done(call('SREM', P .. 'paused', queue))
