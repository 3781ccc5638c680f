"use strict";
// A viewer opened this window and waits until it is closed.
window.close();
