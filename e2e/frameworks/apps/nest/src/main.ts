import 'reflect-metadata'
import { Controller, Get, Module, OnApplicationShutdown } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'

@Controller()
class AppController implements OnApplicationShutdown {
  @Get()
  worker(): string {
    return `worker=${process.pid}`
  }

  onApplicationShutdown(signal?: string): void {
    console.log(`worker ${process.pid} cleans up at ${signal}`)
  }
}

@Module({ controllers: [AppController] })
class AppModule {}

async function bootstrap(): Promise<void> {
  const app = await NestFactory.create(AppModule)
  app.enableShutdownHooks()
  await app.listen(3000)
}

bootstrap()
