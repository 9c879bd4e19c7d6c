// Code that cannot run: what is reloaded here has to be rolled back.
'use strict'

throw new Error('broken on purpose')
