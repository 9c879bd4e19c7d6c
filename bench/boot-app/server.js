// An application as people write them, without their own code: Nest, its documentation of the API, checks of what comes in,
// and a library for a database that is never opened. Some 1,700 modules. It appends lines to BENCH_EVENTS as server.js does.
// With BENCH_MODULES it writes to that file which modules it has loaded, and ends.

'use strict'

require('reflect-metadata')
const fs = require('node:fs')
const { Controller, Get, Module, ValidationPipe } = require('@nestjs/common')
const { NestFactory } = require('@nestjs/core')
const { DocumentBuilder, SwaggerModule } = require('@nestjs/swagger')
const { IsInt } = require('class-validator')
const { Column, Entity, PrimaryColumn } = require('typeorm')

class Item {}
IsInt()(Item.prototype, 'id')
PrimaryColumn({ type: 'int' })(Item.prototype, 'id')
Column({ type: 'varchar' })(Item.prototype, 'name')
Entity()(Item)

class Shop {
  list() {
    return Array.from({ length: 20 }, (_, id) => ({ id, name: `item ${id}` }))
  }
}
Get('items')(Shop.prototype, 'list', Object.getOwnPropertyDescriptor(Shop.prototype, 'list'))
Controller()(Shop)

class App {}
Module({ controllers: [Shop] })(App)

async function main() {
  const app = await NestFactory.create(App, { logger: false })
  app.useGlobalPipes(new ValidationPipe())
  SwaggerModule.setup('docs', app, SwaggerModule.createDocument(app, new DocumentBuilder().build()))
  await app.listen(Number(process.env.PORT), '127.0.0.1')
  const { BENCH_MODULES: modules, BENCH_EVENTS: events } = process.env
  if (modules) {
    fs.writeFileSync(modules, JSON.stringify(Object.keys(require.cache)))
    process.exit()
  }
  const { port } = app.getHttpServer().address()
  const event = { event: 'listening', time: Number(process.hrtime.bigint()), pid: process.pid, port }
  fs.appendFileSync(events, `${JSON.stringify(event)}\n`)
}

main()
