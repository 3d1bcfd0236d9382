-- Pause: only claims look at it; 1 if it changed anything.

open_door()
return done(call('SADD', P .. 'paused', arg()))
